package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"passbook/internal/follow"
	"passbook/internal/pgtest"
	"passbook/internal/relay"
	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

// authority is a certificate authority of a test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.file, _ = a.issue(name, a.cert)
	return a
}

// issue writes a certificate and its key, and returns the files. A certificate authority signs its own.
func (a *authority) issue(name string, cert *x509.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	if cert.IsCA {
		a.key = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	a.check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")
	a.check(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.check(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile
}

func (a *authority) leaf(name string) (certFile, keyFile string) {
	a.t.Helper()
	return a.issue(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// withUsers is a configuration with a user, and perhaps what it may do.
func withUsers(user, password, permissions string) string {
	return fmt.Sprintf("accounts { BANK { jetstream: enabled, users: [{ user: %q, password: %q%s }] } }\n", user, password, permissions)
}

func as(node *nodes.Node, user, password string) string {
	u, _ := url.Parse(node.URL)
	u.User = url.UserPassword(user, password)
	return u.String()
}

// operated configures a node to accept the users of an operator's account, and returns a function that writes a user's credentials.
func operated(t *testing.T, node *nodes.Node) func(name string) (file string) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	pair := func(prefix nkeys.PrefixByte) (nkeys.KeyPair, string) {
		kp, err := nkeys.CreatePair(prefix)
		check(err)
		public, err := kp.PublicKey()
		check(err)
		return kp, public
	}
	operator, operatorID := pair(nkeys.PrefixByteOperator)
	account, accountID := pair(nkeys.PrefixByteAccount)
	_, systemID := pair(nkeys.PrefixByteAccount)
	oc := jwt.NewOperatorClaims(operatorID)
	oc.SystemAccount = systemID
	operatorJWT, err := oc.Encode(operator)
	check(err)
	ac := jwt.NewAccountClaims(accountID)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := ac.Encode(operator)
	check(err)
	systemJWT, err := jwt.NewAccountClaims(systemID).Encode(operator)
	check(err)
	check(node.Configure(fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload { %s: %s, %s: %s }\n",
		operatorJWT, accountID, accountJWT, systemID, systemJWT)))
	return func(name string) string {
		user, userID := pair(nkeys.PrefixByteUser)
		uc := jwt.NewUserClaims(userID)
		uc.Name = name
		signer := account
		if name == "stranger" { // another account's
			signer, _ = pair(nkeys.PrefixByteAccount)
		}
		token, err := uc.Encode(signer)
		check(err)
		seed, err := user.Seed()
		check(err)
		text, err := jwt.FormatUserConfig(token, seed)
		check(err)
		file := filepath.Join(t.TempDir(), name+".creds")
		check(os.WriteFile(file, text, 0o600))
		return file
	}
}

// secured are ways to secure NATS: each configures a node, and returns options that it accepts, and others with what the reason has to
// contain when it does not.
var secured = map[string]func(*testing.T, *nodes.Node) (stream.Options, map[string]stream.Options){
	"TLS with client certificates": func(t *testing.T, node *nodes.Node) (stream.Options, map[string]stream.Options) {
		t.Helper()
		ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
		cert, key := ours.leaf("server")
		ours.check(node.Configure(fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ours.file)))
		right := stream.Options{URL: strings.Replace(node.URL, "nats://", "tls://", 1), CA: ours.file}
		right.Cert, right.Key = ours.leaf("client")
		wrongCA, wrongCert, none := right, right, right
		wrongCA.CA = theirs.file
		wrongCert.Cert, wrongCert.Key = theirs.leaf("client")
		none.Cert, none.Key = "", ""
		return right, map[string]stream.Options{
			"signed by unknown authority|PASSBOOK_NATS_CA": wrongCA,
			"tls|PASSBOOK_NATS_CERT":                       wrongCert,
			"tls|PASSBOOK_NATS_KEY":                        none,
		}
	},
	"user and password": func(t *testing.T, node *nodes.Node) (stream.Options, map[string]stream.Options) {
		t.Helper()
		if err := node.Configure(withUsers("ledger", "s3cret-0f-ours", "")); err != nil {
			t.Fatal(err)
		}
		return stream.Options{URL: as(node, "ledger", "s3cret-0f-ours")}, map[string]stream.Options{
			"authorization violation|PASSBOOK_NATS_CREDS": {URL: as(node, "ledger", "s3cret-0f-none")},
			"Authorization Violation|PASSBOOK_NATS_CREDS": {URL: node.URL},
		}
	},
	"credentials": func(t *testing.T, node *nodes.Node) (stream.Options, map[string]stream.Options) {
		t.Helper()
		issue := operated(t, node)
		return stream.Options{URL: node.URL, Credentials: issue("ledger")}, map[string]stream.Options{
			"authorization violation|PASSBOOK_NATS_CREDS": {URL: node.URL, Credentials: issue("stranger")},
		}
	},
}

// TestSecuredNATS has a relay and a follower work with a nats-server that is secured, and say what is wrong when they may not connect.
func TestSecuredNATS(t *testing.T) {
	t.Parallel()
	for name, configure := range secured {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wrong map[string]stream.Options
			b := newBedWith(t, func(node *nodes.Node) (right stream.Options) {
				right, wrong = configure(t, node)
				return right
			})
			b.append(20)
			r, _ := b.relay()
			copied := pgtest.New(t)
			_, _ = b.follow(copied)
			b.awaitCopy(copied)
			if s := r.Status(); s.State != relay.Publishing {
				t.Errorf("the relay is %+v", s)
			}
			for reason, options := range wrong {
				other := *b
				other.options = options
				other.awaitReasons(append(strings.Split(reason, "|"), strings.TrimPrefix(b.node.URL, "nats://"))...)
			}
		})
	}
}

// awaitReasons starts a relay and a follower and waits until both are unavailable, with a reason that has all the parts and no secret.
func (b *bed) awaitReasons(parts ...string) {
	b.t.Helper()
	r, _ := b.relay()
	f, _ := b.follow(b.pool)
	for who, reason := range map[string]func() (bool, string){
		"the relay":    func() (bool, string) { s := r.Status(); return s.State == relay.Unavailable, s.Error },
		"the follower": func() (bool, string) { s := f.Status(); return s.State == follow.Unavailable, s.Error },
	} {
		b.await(who+" is unavailable", func() bool { is, _ := reason(); return is })
		_, text := reason()
		for _, part := range parts {
			if !strings.Contains(strings.ToLower(text), strings.ToLower(part)) {
				b.t.Errorf("%s does not say %q: %s", who, part, text)
			}
		}
		if strings.Contains(text, "s3cret") || strings.Contains(text, "outbound buffer") {
			b.t.Errorf("%s says %s", who, text)
		}
	}
}

func TestNoNATSThere(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(1)
	b.node.Kill()
	b.options.URL = as(b.node, "ledger", "s3cret")
	b.awaitReasons(b.node.URL, "connection refused", "check")
}

// TestPasswordThatBecomesValid expects a relay to go on trying, however often it was refused.
func TestPasswordThatBecomesValid(t *testing.T) {
	t.Parallel()
	b := newBedWith(t, func(node *nodes.Node) stream.Options {
		if err := node.Configure(withUsers("ledger", "old", "")); err != nil {
			t.Fatal(err)
		}
		return stream.Options{URL: as(node, "ledger", "old")}
	})
	b.append(3)
	late := *b
	late.options.URL = as(b.node, "ledger", "new")
	r, _ := late.relay()
	b.await("the relay is refused some times", func() bool { return strings.Count(b.node.Log(), "authentication error") >= 4 })
	b.node.Kill()
	b.check(b.node.Configure(withUsers("ledger", "new", "")))
	b.check(b.node.Start())
	b.await("the relay publishes", func() bool { s := r.Status(); return s.State == relay.Publishing && s.Published == 3 })
}

// TestMissingPermission expects the subject that a relay may not use, and not just that a request was not answered.
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	b := newBedWith(t, func(node *nodes.Node) stream.Options {
		if err := node.Configure(withUsers("ledger", "one", "") + "no_auth_user: ledger\n"); err != nil {
			t.Fatal(err)
		}
		return stream.Options{URL: node.URL}
	})
	b.append(1)
	b.node.Kill()
	b.check(b.node.Configure(withUsers("ledger", "one", `, permissions: { publish: { deny: ["$JS.API.STREAM.INFO.>"] } }`) + "no_auth_user: ledger\n"))
	b.check(b.node.Start())
	b.await("NATS is up again", b.nc.IsConnected)
	b.awaitReasons("permissions violation", "$JS.API.STREAM.INFO.PASSBOOK", "docs/streams.md")
}

// TestFollowerStopsAtOnce stops a follower whose consumer is lost and cannot be made again.
func TestFollowerStopsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBedWith(t, func(node *nodes.Node) stream.Options {
		if err := node.Configure(withUsers("ledger", "one", "") + "no_auth_user: ledger\n"); err != nil {
			t.Fatal(err)
		}
		return stream.Options{URL: node.URL}
	})
	b.append(3)
	_, stopRelay := b.relay()
	copied := pgtest.New(t)
	f, err := follow.New(follow.Config{
		Pool: copied, Conn: b.connect(), Stream: "PASSBOOK", Appended: func() {}, Logger: quiet(),
		Idle: time.Minute, // the consumer notices first
	})
	b.check(err)
	stop := background(t, f.Run)
	b.awaitCopy(copied)
	stopRelay()
	b.node.Kill()
	b.check(b.node.Configure(withUsers("ledger", "one", `, permissions: { publish: { deny: ["$JS.API.CONSUMER.>"] } }`) + "no_auth_user: ledger\n"))
	b.check(b.node.Start())
	b.await("the follower tries", func() bool { return strings.Contains(b.node.Log(), `"$JS.API.CONSUMER.`) })
	began := time.Now()
	stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("the follower (%+v) took %v to stop", f.Status(), took)
	}
}
