"""confluent-kafka clients with Headrace's settings; TLS and SASL properties pass through."""
