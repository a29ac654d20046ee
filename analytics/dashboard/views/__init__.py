"""The views, in the order of the navigation. A view is one module here, one in `static/views`, and one line below."""

from analytics.dashboard.view import View
from analytics.dashboard.views import cost, dead_letters, flow, latency, limits, requests, routing

VIEWS: tuple[View, ...] = (
    flow.view,
    cost.view,
    latency.view,
    routing.view,
    requests.view,
    limits.view,
    dead_letters.view,
)
