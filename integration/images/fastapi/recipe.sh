# The image of a team that writes FastAPI services: everything that ../sample needs, tools included.
FROM=git
PACKAGES=(
	python3 python3-fastapi uvicorn python3-httpx python3-sqlalchemy python3-psycopg2 python3-jwt python3-cryptography
	python3-pytest python3-flake8 python3-pip python3-setuptools python3-wheel
)
CONFIG=(
	'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
	'ENV LANG=C.UTF-8'
	'CMD ["python3"]'
)
