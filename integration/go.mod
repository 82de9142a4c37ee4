module cleanroom/integration

go 1.26.5

require go.yaml.in/yaml/v3 v3.0.5

require golang.org/x/crypto v0.55.0

replace cleanroom => ../
