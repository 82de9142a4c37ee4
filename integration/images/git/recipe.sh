# What helper and fastapi share.
IMAGE=no
FROM=base
PACKAGES=(git ca-certificates)
