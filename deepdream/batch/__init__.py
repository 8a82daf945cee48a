"""Many dreams: jobs that run in this process, in several processes or on a cluster, and galleries of their dreams."""
