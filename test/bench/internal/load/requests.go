package load

import (
	"fmt"
	"strconv"
)

// AccountID is the id of account number n: a UUID that SQL can make from the number as well.
func AccountID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

const idLen = 36

func accountIDs(first, count int) []string {
	ids := make([]string, count)
	for i := range ids {
		ids[i] = AccountID(first + i)
	}
	return ids
}

// picker picks accounts at random: xorshift64, which costs next to nothing.
type picker struct {
	ids   []string
	state uint64
}

func newPicker(ids []string, seed uint64) *picker {
	return &picker{ids: ids, state: (seed + 1) * 0x9e3779b97f4a7c15}
}

func (p *picker) next() string {
	p.state ^= p.state << 13
	p.state ^= p.state >> 7
	p.state ^= p.state << 17
	return p.ids[p.state%uint64(len(p.ids))]
}

// key is an idempotency key of 32 hexadecimal digits: the run's nonce, the connection, a counter.
type key struct {
	prefix string
	n      uint64
}

const keyLen = 32

func newKey(nonce string, conn int) *key { return &key{prefix: fmt.Sprintf("%s%04x", nonce, conn)} }

// next writes a key that was never used before into dst, which is keyLen long.
func (k *key) next(dst []byte) {
	k.n++
	n := k.n
	counter := copy(dst, k.prefix)
	for i := keyLen - 1; i >= counter; i-- {
		dst[i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
}

// blank stands for n characters that are filled in later.
func blank(n int) string { return fmt.Sprintf("%*s", n, "") }

func post(path, headers, body string) []byte {
	return []byte("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

func depositRequests(pick *picker, k *key) func() []byte {
	return movementRequests("/deposits", "1.00", pick, k)
}

// refusedRequests are withdrawals of more than any account has.
func refusedRequests(pick *picker, k *key) func() []byte {
	return movementRequests("/withdrawals", "1000000000000.00", pick, k)
}

// movementRequests makes requests in one buffer: the account and the key are put into a template.
func movementRequests(path, amount string, pick *picker, k *key) func() []byte {
	const keyHeader = "Idempotency-Key: "
	body := `{"account_id":"` + blank(idLen) + `","amount":"` + amount + `"}`
	request := post(path, keyHeader+blank(keyLen)+"\r\n", body)
	keyAt := indexOf(request, keyHeader) + len(keyHeader)
	idAt := indexOf(request, `{"account_id":"`) + len(`{"account_id":"`)
	return func() []byte {
		k.next(request[keyAt : keyAt+keyLen])
		copy(request[idAt:], pick.next())
		return request
	}
}

func balanceRequests(pick *picker) func() []byte {
	const start = "GET /accounts/"
	request := []byte(start + blank(idLen) + "/balance HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return func() []byte {
		copy(request[len(start):], pick.next())
		return request
	}
}

// each makes one request for each stride-th account from index first, and nil after the last.
func each(ids []string, first, stride int, request func(id string) []byte) func() []byte {
	return func() []byte {
		if first >= len(ids) {
			return nil
		}
		id := ids[first]
		first += stride
		return request(id)
	}
}

func openRequest(id string) []byte {
	return post("/accounts", "", `{"account_id":"`+id+`","owner":"Ada Lovelace","currency":"EUR"}`)
}

func touchRequest(id string) []byte {
	return post("/deposits", "", `{"account_id":"`+id+`","amount":"1.00"}`)
}

func indexOf(request []byte, what string) int {
	for i := range request {
		if i+len(what) <= len(request) && string(request[i:i+len(what)]) == what {
			return i
		}
	}
	panic("load: " + what + " is not in the template")
}
