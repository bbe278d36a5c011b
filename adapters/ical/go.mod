module github.com/presence-go/presence/adapters/ical

go 1.26.0

require (
	github.com/presence-go/presence v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/benbjohnson/clock v1.3.5 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.24.0 // indirect
)
