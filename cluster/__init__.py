"""predict.py on many machines: shards of pictures on Ray. Nothing else imports Ray."""
