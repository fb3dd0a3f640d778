"""What the law asks of such a system: sealing, an audit log, pseudonyms, expiry, receipts."""
