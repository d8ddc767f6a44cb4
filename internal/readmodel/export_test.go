package readmodel

// CaptureSentSQL is the statement that finds the hold of a transfer by the position of its capture.
const CaptureSentSQL = captureSentSQL
