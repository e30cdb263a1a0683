"""What services remember: keyed state per partition, and tables. The truth is always a compacted topic.

Source: design section 4, "State".
"""
