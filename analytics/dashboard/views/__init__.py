"""The views, in the order of the navigation. A view is one module here, one in `static/views`, and one line below."""

from analytics.dashboard.view import View
from analytics.dashboard.views import dead_letters, flow, limits, requests

VIEWS: tuple[View, ...] = (
    flow.view,
    requests.view,
    limits.view,
    dead_letters.view,
)
