// Package web holds the console's files: HTML, CSS and ES modules that are served as they are written.
package web

import (
	"embed"
	"io/fs"
)

//go:embed console
var files embed.FS

// Console returns the console's files. index.html is its page; the others lie below it under the paths they have here.
func Console() fs.FS {
	console, err := fs.Sub(files, "console")
	if err != nil {
		panic(err) // "console" is a valid path, so that it cannot be
	}
	return console
}
