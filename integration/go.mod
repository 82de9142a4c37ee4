module cleanroom/integration

go 1.26.5

require go.yaml.in/yaml/v3 v3.0.5

require (
	cleanroom v0.0.0-00010101000000-000000000000
	golang.org/x/crypto v0.58.0
)

require github.com/go-jose/go-jose/v4 v4.1.8 // indirect

replace cleanroom => ../
