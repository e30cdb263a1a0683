"""Object stores: obstore for data, boto3 for what it lacks (multipart uploads that can be aborted, exact errors)."""
