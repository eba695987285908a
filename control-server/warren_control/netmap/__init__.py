"""Map responses of a snapshot. Pure: what each node may be shown comes in as `Views`, JSON goes out."""
