package holdfast_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

// An authority signs certificates for as long as a test lasts.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "a throw-away authority"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.pool.AddCert(a.cert)
	return a
}

// sign makes a certificate: the authority's own, as long as it has none.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	issuer, issuerKey := a.cert, a.key
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// files writes a certificate for 127.0.0.1 and its key.
func (a *authority) files(dir string) (cert, key string) {
	a.t.Helper()
	c, k := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "redis.crt"), filepath.Join(dir, "redis.key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Raw}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// startTLS runs a server that speaks TLS at addr, and in the clear at its own address.
func startTLS(t *testing.T, a *authority) (server *redistest.Server, addr string) {
	t.Helper()
	port, err := loopback.Hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Close)
	cert, key := a.files(t.TempDir())
	server, err = redistest.Launch("--tls-port", strconv.Itoa(port.Number), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-auth-clients", "no", "--tls-ca-cert-file", cert)
	// Old and new ones say it in different words.
	if err != nil && (strings.Contains(err.Error(), ">>> 'tls-port") || strings.Contains(err.Error(), "Failed finding TLS support")) {
		t.Skip("this redis-server is built without TLS: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server, port.Addr()
}

// Over TLS a lock works as in the clear: it is checked, taken, waited for by message,
// renewed, released.
func TestHazardTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server, addr := startTLS(t, a)
	z := &hazard{T: t, server: server}
	encrypted := func(o *redis.Options) { o.TLSConfig = &tls.Config{RootCAs: a.pool} }
	const lease = 1500 * time.Millisecond
	client := func() *holdfast.Client {
		return z.newClient(z.dial(addr, encrypted), holdfast.WithWatchdogTimeout(lease))
	}
	c := client()
	z.want("Check", c.Check(z.ctx()), nil)
	h := z.mustLock(c.RLock("orders"))
	select {
	case <-h.Done():
		z.Errorf("the hold ended: %v", h.Err())
	case <-time.After(lease * 3 / 2): // it is renewed meanwhile
	}
	w := z.waits(client().RLock("orders"))
	z.mustUnlock(h)
	z.gets(0, w) // without the message it would come when the lease is over
	z.freeWithin(slack)
}

// Who does not trust the server's certificate is told so at once. If one side speaks TLS
// and the other does not, Redis says nothing that tells it from a server that is down: a
// single attempt has its error soon, waiting goes on, and Check names the reason. Nothing
// of this is ever taken for a lock that somebody else has.
func TestHazardTLSIsRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server, addr := startTLS(t, a)
	const (
		prompt = 2 * time.Second // go-redis dials five times, for half a second where the machine is idle
		silent = "Redis did not answer in time"
	)
	for _, row := range []struct {
		name   string
		addr   string
		tls    *tls.Config
		once   string // what a single attempt says, ...
		soon   time.Duration
		waits  bool   // ... and whether a call that waits goes on
		checks string // what Check says
	}{{
		name: "another authority", addr: addr, tls: &tls.Config{RootCAs: newAuthority(t).pool},
		once: "tls: failed to verify certificate: x509: certificate signed by unknown authority", soon: prompt,
		checks: "tls: failed to verify certificate: x509: certificate signed by unknown authority",
	}, {
		name: "another name", addr: addr, tls: &tls.Config{RootCAs: a.pool, ServerName: "redis.example.com"},
		once: "tls: failed to verify certificate: x509: ", soon: prompt,
		checks: "tls: failed to verify certificate: x509: ",
	}, {
		name: "in the clear to a TLS port", addr: addr,
		once: "EOF", soon: prompt, waits: true,
		checks: "EOF: the server closed the connection; maybe it wants TLS, and this client has no TLSConfig",
	}, {
		name: "TLS to a port in the clear", addr: server.Addr(), tls: &tls.Config{RootCAs: a.pool},
		once: silent, soon: 3 * time.Second, waits: true,
		checks: "the server did not answer: context deadline exceeded; maybe it does not speak TLS, and this client does",
	}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			z := &hazard{T: t, server: server}
			limit := 5 * time.Second // nobody waits for that long
			if row.waits {
				limit = 1500 * time.Millisecond
			}
			c := z.newClient(z.dial(row.addr, func(o *redis.Options) { o.TLSConfig = row.tls }))
			z.atOnce(
				func() {
					start := time.Now()
					_, err := c.RLock("orders").TryLock(z.ctx(), 0, 0)
					z.wantSaid("TryLock(0)", err, row.once)
					z.wantWithin(row.soon, "TryLock(0)", start)
				},
				func() { z.endsWith("Lock", c.RLock("orders"), limit, row.waits, row.once) },
				func() {
					ctx, cancel := context.WithTimeout(z.ctx(), limit)
					defer cancel()
					if err := c.Check(ctx); err == nil || !strings.Contains(err.Error(), "check: "+row.checks) {
						z.Errorf("Check: got %v, want it to say %q", err, row.checks)
					}
				},
			)
		})
	}
}

// endsWith calls Lock with a limited ctx. It ends with these words: with ctx if it is
// one that waits, else before.
func (z *hazard) endsWith(deed string, l holdfast.Lock, limit time.Duration, waits bool, says string) {
	z.Helper()
	ctx, cancel := context.WithTimeout(z.ctx(), limit)
	defer cancel()
	_, err := l.Lock(ctx)
	z.wantSaid(deed, err, says)
	if ended := errors.Is(err, context.DeadlineExceeded); ended != waits {
		z.Errorf("%s: got %v, want it to wait: %v", deed, err, waits)
	}
}

// atOnce runs these beside each other, and waits for all.
func (z *hazard) atOnce(deeds ...func()) {
	var all sync.WaitGroup
	for _, deed := range deeds {
		all.Go(deed)
	}
	all.Wait()
}
