package redisstore_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/projector/storetest"
	"passbook/test/redisstore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// sums is a Fold kept in a hash, by stream.
type sums map[uuid.UUID]int64

// Write implements redisstore.Fold.
func (s sums) Write(ctx context.Context, pipe redis.Pipeliner, prefix string) {
	for stream, n := range s {
		pipe.HIncrBy(ctx, prefix+"sums", stream.String(), n)
	}
}

// readLua atomically reads the live model and its position; ARGV[1] is the prefix of the store's keys.
const readLua = `local live = redis.call('get', ARGV[1] .. ':live') or '0'
local prefix = ARGV[1] .. ':' .. live .. ':'
return {redis.call('get', prefix .. 'at') or '0', redis.call('hgetall', prefix .. 'sums')}`

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, database, func(t *testing.T, _ *pgxpool.Pool) storetest.Home {
		t.Helper()
		return home(start(t))
	})
}

func home(client *redis.Client) (h storetest.Home) {
	h = storetest.Home{
		Store: redisstore.New(client, "sums"),
		Define: func(store projector.Store) *projector.Projection {
			p := projector.DefineIn(store, "sums", 1, func() any { return make(sums) })
			projector.On(p, func(s sums, at projector.Event, e storetest.Added) error {
				s[at.StreamID] += e.N
				return nil
			})
			return p
		},
		Fold: func(stream uuid.UUID, n int64) any { return sums{stream: n} },
		Read: func(ctx context.Context) (map[uuid.UUID]int64, int64, error) { return read(ctx, client) },
		Lose: func() storetest.Home {
			client.FlushAll(context.Background())
			return h
		},
		Other: func() storetest.Home { return h },
	}
	return h
}

func read(ctx context.Context, client *redis.Client) (map[uuid.UUID]int64, int64, error) {
	reply, err := client.Eval(ctx, readLua, nil, "sums").Slice()
	if err != nil {
		return nil, 0, err
	}
	at, _, _ := strings.Cut(reply[0].(string), " ")
	position, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return nil, 0, err
	}
	all := make(sums)
	fields := reply[1].([]any)
	for i := 0; i < len(fields); i += 2 {
		n, err := strconv.ParseInt(fields[i+1].(string), 10, 64)
		if err != nil {
			return nil, 0, err
		}
		all[uuid.MustParse(fields[i].(string))] = n
	}
	return all, position, nil
}

func database(t *testing.T) storetest.Connect {
	t.Helper()
	url := pgtest.URL(t)
	return func(tracer pgx.QueryTracer) *pgxpool.Pool {
		pool, err := postgres.NewPool(t.Context(), url, postgres.WithTracer(tracer))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
}

// start starts a Redis for the test, on a Unix socket.
func start(t *testing.T) *redis.Client {
	t.Helper()
	if err := install(); err != nil {
		t.Skipf("no redis-server, and it cannot be installed: %v", err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for client.Ping(ctx).Err() != nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("redis-server did not start")
		}
	}
	return client
}

// install installs Redis on Debian, as root, if it is missing.
var install = sync.OnceValue(func() error {
	if _, err := exec.LookPath("redis-server"); err == nil {
		return nil
	}
	if out, err := exec.Command("apt-get", "install", "-y", "--no-install-recommends", "redis-server").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})
