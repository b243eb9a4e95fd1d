"""What methods change in a backbone or add to it: the parts that several of them share."""
