"""The status page of the HTTP port: what the cluster does now, for people, without anything from outside."""
