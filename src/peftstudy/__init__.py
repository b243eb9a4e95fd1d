"""Which way of adapting a pre-trained language model is worth using, at what cost, and how sure are we?"""
