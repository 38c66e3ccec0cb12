package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"google.golang.org/grpc"

	pb "interop/build/gen/replcache/v1"
)

const events = 20

// watch makes half of the writes before the leader is killed, half after; that leader served the watch.
func watch(ctx context.Context, nodes *cluster, prefix string) {
	leader := ""
	for i, n := range nodes.nodes {
		header := must(n.cluster.Status(ctx, &pb.StatusRequest{})).Header
		leader = header.Leader
		if header.Node == leader {
			nodes.first = i
		}
	}
	var keys []string
	for i := range events {
		keys = append(keys, fmt.Sprintf("%s%02d", prefix, i))
	}
	base := put(nodes, prefix+"before")

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan *pb.WatchEvent)
	go follow(ctx, &cluster{nodes.nodes, nodes.first}, prefix, base+1, changes)
	var seen []*pb.WatchEvent
	half := func(part []string) {
		for _, key := range part {
			put(nodes, key)
		}
		for range part {
			seen = append(seen, <-changes)
		}
	}
	half(keys[:events/2])
	fmt.Println("kill", leader)
	must(bufio.NewReader(os.Stdin).ReadString('\n'))
	half(keys[events/2:])

	last := base
	for i, event := range seen {
		ensure(string(event.Key) == keys[i], "a gap, or out of order: "+string(event.Key))
		ensure(event.Revision > last, "revisions do not increase")
		last = event.Revision
	}
	fmt.Println("watch:", len(seen), "events in order over a leader kill")
}

// put writes whatever happens to a node, once; it returns the revision.
func put(nodes *cluster, key string) uint64 {
	request := &pb.SetRequest{Key: []byte(key), Value: []byte("x"), Idempotency: once()}
	return must(call(nodes, func(ctx context.Context, n *node) (*pb.SetResponse, error) {
		return n.cache.Set(ctx, request)
	})).Header.Revision
}

// follow sends every change from revision start on, and goes on at another node when the one that serves it is
// gone.
func follow(ctx context.Context, nodes *cluster, prefix string, start uint64, changes chan<- *pb.WatchEvent) {
	for ctx.Err() == nil {
		request := &pb.WatchRequest{
			Range:         &pb.WatchRequest_Prefix{Prefix: []byte(prefix)},
			StartRevision: start,
		}
		stream := must(call(nodes, func(_ context.Context, n *node) (grpc.ServerStreamingClient[pb.WatchResponse], error) {
			stream, err := n.watch.Watch(ctx, request)
			if err == nil {
				_, err = stream.Recv() // created
			}
			return stream, err
		}))
		response, err := stream.Recv()
		for ; err == nil; response, err = stream.Recv() {
			for _, event := range response.Events {
				start = event.Revision + 1
				changes <- event
			}
		}
		ensure(ctx.Err() != nil || mayPass(err), fmt.Sprint("the watch ended: ", err))
	}
}
