#!/bin/bash
export FROM_ENTRYPOINT=yes
echo 'entrypoint: ready'
exec "$@"
