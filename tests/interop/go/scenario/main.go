// The scenario that every language runs. Usage: scenario ADDRESS,ADDRESS,... PREFIX [CA_FILE]
// The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "interop/build/gen/replcache/v1"
)

func main() {
	addresses, prefix, caFile := strings.Split(os.Args[1], ","), os.Args[2], ""
	if len(os.Args) > 3 {
		caFile = os.Args[3]
	}
	token := os.Getenv("REPLCACHE_TOKEN")
	nodes := &cluster{}
	for _, address := range addresses {
		nodes.nodes = append(nodes.nodes, must(connect(address, caFile, token)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	readAndWrite(ctx, nodes.nodes, prefix+"user")
	refusals(ctx, nodes.nodes[1].cache, prefix)
	count(ctx, nodes.nodes, prefix)
	manyAtOnce(ctx, nodes.nodes[2].cache, prefix)
	transaction(ctx, nodes.nodes[1].cache, prefix)
	lock(ctx, nodes.nodes[0], prefix)
	if token != "" {
		stranger := must(connect(addresses[0], caFile, ""))
		_, err := stranger.cache.Get(ctx, &pb.GetRequest{Key: []byte(prefix)})
		fmt.Println("no token:", outcome("served", err))
		_, err = nodes.nodes[0].cache.Get(ctx, &pb.GetRequest{Key: []byte("not/ours")})
		fmt.Println("no right:", outcome("served", err))
	}
	watch(ctx, nodes, prefix+"watch/")
}

func readAndWrite(ctx context.Context, nodes []*node, key string) {
	one, two, three := nodes[0].cache, nodes[1].cache, nodes[2].cache
	written := must(one.Set(ctx, &pb.SetRequest{
		Key:         []byte(key),
		Value:       []byte(`{"name":"Ada"}`),
		ContentType: "application/json",
		Ttl:         durationpb.New(10 * time.Minute),
		Idempotency: once(),
	}))
	fmt.Println("set: version", written.Version)

	answer := must(two.Get(ctx, &pb.GetRequest{Key: []byte(key)}))
	fmt.Printf("get linearizable: %s %s\n", answer.Entry.Value, answer.Entry.ContentType)

	session := &pb.ReadOptions{Level: pb.ReadLevel_READ_LEVEL_SESSION, MinRevision: written.Header.Revision}
	answer = must(three.Get(ctx, &pb.GetRequest{Key: []byte(key), Read: session}))
	ensure(answer.Header.Revision >= written.Header.Revision, "an older state was read")
	fmt.Printf("get session: %s\n", answer.Entry.Value)

	bound := 2 * time.Second
	local := &pb.ReadOptions{Level: pb.ReadLevel_READ_LEVEL_ONE, MaxStaleness: durationpb.New(bound)}
	answer = must(one.Get(ctx, &pb.GetRequest{Key: []byte(key), Read: local}))
	ensure(answer.Header.Staleness.AsDuration() <= bound, "too stale")
	fmt.Printf("get one: %s\n", answer.Entry.Value)

	missing := must(one.Get(ctx, &pb.GetRequest{Key: []byte(key + "/none")}))
	ensure(missing.Entry == nil, "an entry that nobody wrote")
	fmt.Println("get missing: absent")

	merged := must(one.Update(ctx, &pb.UpdateRequest{
		Key:         []byte(key),
		Change:      &pb.UpdateRequest_MergeJson{MergeJson: []byte(`{"admin":true}`)},
		Idempotency: once(),
	}))
	fmt.Printf("update: %s version %d\n", merged.Entry.Value, merged.Entry.Version)
}

func refusals(ctx context.Context, cache pb.CacheClient, prefix string) {
	_, err := cache.Update(ctx, &pb.UpdateRequest{
		Key:         []byte(prefix + "none"),
		Change:      &pb.UpdateRequest_Append{Append: []byte("x")},
		Idempotency: once(),
	})
	fmt.Println("update missing:", outcome("done", err))
	_, err = cache.Set(ctx, &pb.SetRequest{
		Key:         []byte(prefix + "user"),
		Condition:   &pb.Condition{IfAbsent: true},
		Idempotency: once(),
	})
	fmt.Println("set if absent:", outcome("done", err))
	long := append([]byte(prefix), make([]byte, 1024)...)
	_, err = cache.Set(ctx, &pb.SetRequest{Key: long, Idempotency: once()})
	fmt.Println("key too long:", outcome("done", err))
}

// count sends the same request to two nodes; it counts once.
func count(ctx context.Context, nodes []*node, prefix string) {
	five := &pb.IncrementRequest{Key: []byte(prefix + "count"), Delta: 5, Idempotency: once()}
	first := must(nodes[0].cache.Increment(ctx, five))
	second := must(nodes[1].cache.Increment(ctx, five))
	fmt.Println("increment twice with one request id:", first.Value, second.Value)
}

func manyAtOnce(ctx context.Context, cache pb.CacheClient, prefix string) {
	a := []byte(prefix + "a")
	done := must(cache.Batch(ctx, &pb.BatchRequest{
		Atomic:      true,
		Idempotency: once(),
		Operations: []*pb.Operation{
			{Kind: &pb.Operation_Set{Set: &pb.SetRequest{Key: a, Value: []byte("1")}}},
			increment(prefix+"count", 1),
			{Kind: &pb.Operation_Get{Get: &pb.GetRequest{Key: a}}},
		},
	})).Results
	set, counter, read := done[0].GetSet(), done[1].GetIncrement(), done[2].GetGet()
	fmt.Printf("batch: %d %d %s\n", set.Version, counter.Value, read.Entry.Value)

	_, err := cache.Batch(ctx, &pb.BatchRequest{
		Atomic:      true,
		Idempotency: once(),
		Operations: []*pb.Operation{
			{Kind: &pb.Operation_Delete{Delete: &pb.DeleteRequest{Key: a}}},
			{Kind: &pb.Operation_Update{Update: &pb.UpdateRequest{
				Key:    []byte(prefix + "none"),
				Change: &pb.UpdateRequest_Append{Append: []byte("x")},
			}}},
		},
	})
	fmt.Println("batch undone:", outcome("done", err))
}

func increment(key string, delta int64) *pb.Operation {
	return &pb.Operation{Kind: &pb.Operation_Increment{
		Increment: &pb.IncrementRequest{Key: []byte(key), Delta: delta},
	}}
}

// transaction takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6.
func transaction(ctx context.Context, cache pb.CacheClient, prefix string) {
	counter := []byte(prefix + "count")
	for range 2 {
		done, err := cache.Txn(ctx, &pb.TxnRequest{
			Compares:    []*pb.Compare{{Key: counter, Condition: &pb.Condition{IfValue: []byte("6")}}},
			Then:        []*pb.Operation{increment(prefix+"count", -6), increment(prefix+"other", 6)},
			Otherwise:   []*pb.Operation{{Kind: &pb.Operation_Get{Get: &pb.GetRequest{Key: counter}}}},
			Idempotency: once(),
		})
		result := ""
		if done.GetSucceeded() {
			result = fmt.Sprintf("then %d", done.Results[1].GetIncrement().Value)
		} else if err == nil {
			result = fmt.Sprintf("otherwise %s", done.Results[0].GetGet().Entry.Value)
		}
		fmt.Println("txn:", outcome(result, err))
	}
}

func lock(ctx context.Context, n *node, prefix string) {
	name := prefix + "lock"
	acquire := func(owner string) (uint64, error) {
		request := &pb.AcquireRequest{Name: name, Owner: []byte(owner), Ttl: durationpb.New(10 * time.Second)}
		granted, err := n.lock.Acquire(ctx, request)
		return granted.GetToken(), err
	}
	write := func(token uint64) string {
		written, err := n.cache.Set(ctx, &pb.SetRequest{
			Key:         []byte(prefix + "guarded"),
			Value:       []byte("x"),
			Fence:       &pb.Fence{Name: name, Token: token},
			Idempotency: once(),
		})
		return outcome(fmt.Sprint("version ", written.GetVersion()), err)
	}

	first := must(acquire("first"))
	fmt.Println("fenced write:", write(first))
	_, err := acquire("second")
	fmt.Println("lock held by another:", outcome("granted", err))
	must(n.lock.Release(ctx, &pb.ReleaseRequest{Name: name, Owner: []byte("first"), Token: first}))
	second := must(acquire("second"))
	fmt.Println("later token is larger:", second > first)
	fmt.Println("stale fence:", write(first))
	fmt.Println("fenced write:", write(second))
	must(n.lock.Release(ctx, &pb.ReleaseRequest{Name: name, Owner: []byte("second")}))
}

// outcome is the result, or why there is none.
func outcome(result string, err error) string {
	if err != nil {
		return reason(err)
	}
	return result
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func ensure(holds bool, otherwise string) {
	if !holds {
		log.Fatal(otherwise)
	}
}
