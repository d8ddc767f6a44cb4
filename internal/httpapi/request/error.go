package request

import "passbook/internal/httpapi/genapi"

// Reason is why a request could not be read.
type Reason int

// The reasons. Package httpapi maps each to a status.
const (
	InvalidJSON    Reason = iota + 1 // the body is not JSON
	UnreadableBody                   // the body is incomplete
	InvalidBody                      // the body is JSON that does not match the operation
	InvalidParameter
	InvalidHeader
	WrongMediaType
	BodyTooLarge
)

// Error tells the client what is wrong with its request.
type Error struct {
	Reason Reason
	// Detail is a sentence.
	Detail string
	// Fields are the bad fields, parameters or headers, if any.
	Fields []genapi.FieldError
}

func (e *Error) Error() string { return e.Detail }

func newError(reason Reason, detail string, fields ...genapi.FieldError) *Error {
	return &Error{Reason: reason, Detail: detail, Fields: fields}
}

// HeaderError says that a header is not valid; err's text continues a sentence that begins with its name.
func HeaderError(name string, err error) *Error {
	detail := name + " " + err.Error()
	return newError(InvalidHeader, detail+".", genapi.FieldError{Header: name, Code: "invalid", Detail: detail})
}

// ParameterError says that a parameter is not valid; sentence continues one that begins with its name.
func ParameterError(name, code, sentence string) *Error {
	return newError(InvalidParameter, name+" "+sentence+".", parameterError(name, code, sentence))
}
