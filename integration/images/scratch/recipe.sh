# One program and nothing else: no shell to run a stage in.
PROGRAMS=(hello)
CONFIG=('CMD ["/hello"]')
