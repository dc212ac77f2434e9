"""ONNX in, ONNX out: the contract of the exported graphs."""

from m2a.graphs.contract import CONTRACTS, Contract, Port, check_contract

__all__ = ["CONTRACTS", "Contract", "Port", "check_contract"]
