# An ENTRYPOINT that never runs the command.
FROM=tiny
CONFIG=('ENTRYPOINT ["/entrypoint.sh"]' 'CMD ["bash"]')

fill() { install -m 755 "$dir/entrypoint.sh" "$1/entrypoint.sh"; }
