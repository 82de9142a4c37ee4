#!/bin/bash
export FROM_ENTRYPOINT=yes
echo 'entrypoint: ready'
"$@"
code=$?
echo "entrypoint: the command ended with $code"
exit $code
