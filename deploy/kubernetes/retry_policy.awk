# What Argo tries again, in workflow-controller-configmap as `kubectl get -o yaml` prints it:
# failed and lost pods, in place of lost ones alone. Argo gives the setting to groups of tasks too,
# each of which would begin anew as a whole, group within group; only a pod leaves a message.
/^ *retryPolicy: OnError$/ {
    sub("OnError", "Always")
    print
    sub("retryPolicy: .*", "expression: lastRetry.message != \"\"")
}
{ print }
