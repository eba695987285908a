"""Certificates that the service itself orders from a certificate authority and renews (ACME, RFC 8555).

Only `issue` needs the packages of the extra `acme`, and it is imported when a certificate is ordered.
"""
