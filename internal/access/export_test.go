package access

// Write writes a batch.
var Write = write
