"""Figures of others that quality is read beside, each with its protocol."""

# Best published SASRec under leave-one-out, full catalogue, seen items filtered.
BEST_SASREC = {
    "ml-1m": {"ndcg@10": 0.186, "hr@10": 0.320},
    "amazon-beauty-5core": {"ndcg@10": 0.0588, "hr@10": 0.0974},
}
# Kang & McAuley 2018: the next item among 100 random unseen ones.
SASREC_PAPER = {"ml-1m": {"ndcg@10": 0.590, "hr@10": 0.824}}
