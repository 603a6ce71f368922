"""Shared proof ground of the tests: builders of packets and messages, real servers, a sniffer, a proxy."""
