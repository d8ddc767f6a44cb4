package httpapi

// Open is open.
var Open = open
