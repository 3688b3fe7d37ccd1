"""A channel's folder of images becomes batches: reading, augmentation, caches."""
