module github.com/presence-go/presence/interop

go 1.26.0

require (
	github.com/presence-go/presence v0.1.0
	github.com/presence-go/presence/adapters/phoenix v0.1.0
	github.com/presence-go/presence/adapters/pusher v0.1.0
	github.com/pusher/pusher-http-go/v5 v5.1.1
)

require (
	github.com/benbjohnson/clock v1.3.5 // indirect
	golang.org/x/crypto v0.0.0-20200709230013-948cd5f35899 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.0.0-20190412213103-97732733099d // indirect
)
