module github.com/presence-go/presence/adapters/webhook

go 1.26.0

require github.com/presence-go/presence v0.0.0

replace github.com/presence-go/presence => ../..
