# A service that insists on being process 1, as some init systems do.
PROGRAMS=(service-pid1)
CONFIG=('EXPOSE 9998' 'ENTRYPOINT ["/service-pid1"]')
