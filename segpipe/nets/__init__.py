"""The networks: one encoder, one decoder, and the U-Net that joins them."""
