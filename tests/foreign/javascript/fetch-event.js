// A JavaScript app built on the fetch event. Its engine can answer once per instance.
addEventListener("fetch", (event) => event.respondWith(new Response("answered by a fetch event\n")));
