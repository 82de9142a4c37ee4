# An image with its own user, who has a name, a group of another number and a home.
FROM=tiny
CONFIG=('USER app' 'WORKDIR /home/app' 'CMD ["bash"]')

fill() {
	echo 'app:x:1234:2345:app:/home/app:/bin/bash' >>"$1/etc/passwd"
	echo 'app:x:2345:' >>"$1/etc/group"
	install -d -m 755 -o 1234 -g 2345 "$1/home/app"
}
