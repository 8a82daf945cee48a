"""Many dreams: as jobs in this process, in several, or on a cluster; and galleries of them."""
