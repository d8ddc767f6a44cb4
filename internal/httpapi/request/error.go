package request

import "passbook/internal/httpapi/genapi"

// Reason is why a request could not be read.
type Reason int

// The reasons. Which status each has is for package httpapi to say.
const (
	InvalidJSON    Reason = iota + 1 // the body is not JSON
	UnreadableBody                   // the body did not arrive whole
	InvalidBody                      // the body is JSON, but not what the operation takes
	InvalidParameter
	InvalidHeader
	WrongMediaType
	BodyTooLarge
)

// Error says what is wrong with a request, to its sender.
type Error struct {
	Reason Reason
	// Detail is a sentence.
	Detail string
	// Fields are the bad fields, parameters or headers, if it is one of these.
	Fields []genapi.FieldError
}

func (e *Error) Error() string { return e.Detail }

func newError(reason Reason, detail string, fields ...genapi.FieldError) *Error {
	return &Error{Reason: reason, Detail: detail, Fields: fields}
}

// HeaderError says that a header is not valid; err's text goes on from its name.
func HeaderError(name string, err error) *Error {
	detail := name + " " + err.Error()
	return newError(InvalidHeader, detail+".", genapi.FieldError{Header: name, Code: "invalid", Detail: detail})
}

// ParameterError says that a parameter is not valid; sentence goes on from its name.
func ParameterError(name, code, sentence string) *Error {
	return newError(InvalidParameter, name+" "+sentence+".", parameterError(name, code, sentence))
}
