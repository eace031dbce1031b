"""How faithful a converted model is: an independent reference, a fixed text, a certificate.

Needs ``gguf`` (the extra ``convert``) besides numpy.
"""
