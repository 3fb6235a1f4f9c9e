"""Reading and writing of images, text files and embeddings."""
