# A service that promises a port and never listens on it.
PROGRAMS=(service-silent)
CONFIG=('EXPOSE 9999' 'ENTRYPOINT ["/service-silent"]')
