// Package client has the browser client of presence, for servers that serve it
// themselves, without npm:
//
//	http.Handle("GET /presence/", http.StripPrefix("/presence/", http.FileServerFS(client.Files())))
//
// Pages then import createPresence from /presence/presence.js, and the custom
// elements from /presence/elements.js. README.md describes both.
package client

import (
	"embed"
	"io/fs"
)

//go:embed src/presence.js src/elements.js
var sources embed.FS

// Files returns presence.js and elements.js.
func Files() fs.FS {
	files, err := fs.Sub(sources, "src")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return files
}
