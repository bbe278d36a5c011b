module github.com/presence-go/presence/examples

go 1.26.0

require (
	github.com/benbjohnson/clock v1.3.5
	github.com/gobwas/ws v1.5.0
	github.com/presence-go/presence v0.0.0
	github.com/presence-go/presence/adapters/phoenix v0.0.0
	github.com/presence-go/presence/adapters/pusher v0.0.0
	github.com/presence-go/presence/adapters/ws v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/gobwas/httphead v0.1.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

replace github.com/presence-go/presence => ..

replace github.com/presence-go/presence/adapters/pusher => ../adapters/pusher

replace github.com/presence-go/presence/adapters/ws => ../adapters/ws

replace github.com/presence-go/presence/adapters/phoenix => ../adapters/phoenix
