"""SASRec: a self-attentive sequential recommender, from interactions to ranked items."""
