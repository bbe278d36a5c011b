module github.com/presence-go/presence/adapters/webhook

go 1.26.0

require github.com/presence-go/presence v0.0.0

require github.com/standard-webhooks/standard-webhooks/libraries v0.0.1 // indirect

replace github.com/presence-go/presence => ../..
