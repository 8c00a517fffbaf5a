"""The test rig: an engine, a registry, stand-in images and throwaway hosts, all labelled `batten.rig=true`."""
