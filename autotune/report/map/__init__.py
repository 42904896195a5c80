"""`autotune map`: who wins where over a plane of sizes, as arrays (`choice_map`) and as a `picture`."""
