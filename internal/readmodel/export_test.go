package readmodel

// CaptureSentSQL is the statement that finds the hold of a transfer by where in the log the hold was captured.
const CaptureSentSQL = captureSentSQL
