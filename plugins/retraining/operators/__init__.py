"""The provider's SageMaker operators, only where we add behaviour: durable jobs, honest endpoints, one registration."""
